"""What "wrong" means, once for the monitor, the retrain gate and the canary. Pure: no I/O."""
