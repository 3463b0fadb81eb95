"""What operators see: the operationID that ties everything together, and the logs."""
