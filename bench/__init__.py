"""What the service costs over the bare calls: both measured in one run, round by round."""
