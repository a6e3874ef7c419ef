"""Rollouts: the evidence from both arms, the verdict, the state machine and its controller."""
