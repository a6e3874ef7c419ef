"""What the monitor keeps between cycles."""
