"""What the serving port and the control API share of HTTP: errors as answers, bounded bodies."""
