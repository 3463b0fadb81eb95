"""The codes of errors that are this service's own. Any other is an appliance's word."""

OURS = frozenset(
    {
        # How a pairing stands
        "AlreadyUnpaired",
        "ApplianceMoved",
        "Canceled",
        "DeadlineExceeded",
        "InternalError",
        "PeerNotListed",
        "PeerRegisteredAnew",
        "PeerStillListed",
        "PeerThumbprintDiffers",
        "PeerUrlDiffers",
        "PeerWithoutId",
        "RollbackFailed",
        "RollbackWithoutEffect",
        "UnknownAppliance",
        # What became of a call, or of its task
        "AnswerEncoded",
        "AnswerLost",
        "AnswerTimeout",
        "AnswerTooLarge",
        "ConnectionLost",
        "TaskFailed",
        "TaskForgotten",
        "UnexpectedRedirect",
        "UnknownError",
        "UnreadableAnswer",
        # Why none was sent
        "ApplianceUnavailable",
        "ApplianceUnreachable",
        "CallWithdrawn",
        "CertificateNotTrusted",
        "ClientClosed",
        "ConnectTimeout",
        "CredentialsSealed",
        "EgressForbidden",
        "InvalidManagementUrl",
        "LeaseTooShort",
        "ManagementThumbprintMismatch",
        "OutOfResources",
        "StoreUnavailable",
        "TlsFailed",
    }
)
