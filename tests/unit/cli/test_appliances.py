"""What a person is told of an appliance."""

from service.cli.appliances import told_health, told_user

WELL = {"breaker": "closed", "lastError": None, "login": "ok", "loginError": None}


def test_an_appliance_of_which_nothing_bad_is_known_is_ok() -> None:
    assert told_health(WELL) == "ok"


def test_all_that_is_wrong_is_told() -> None:
    ill = WELL | {"breaker": "open", "lastError": {"code": "ConnectTimeout"}}
    worse = ill | {"login": "refused", "loginError": {"code": "NotAuthenticated"}}
    assert told_health(ill) == "does not answer: ConnectTimeout"
    assert told_health(worse) == "does not answer: ConnectTimeout; login refused: NotAuthenticated"


def test_nobody_is_shown_where_no_key_opens_the_credentials() -> None:
    assert told_user({"credentials": {"type": "localUser", "user": "root"}}) == "root"
    assert told_user({"credentials": None}) == "(sealed: register it again)"
