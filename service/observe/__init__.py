"""What operators see: the operationID that ties everything together, the logs, the metrics."""
