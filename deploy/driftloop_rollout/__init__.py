"""Rollouts: evidence of both arms, the verdict, the state machine and its controller."""
