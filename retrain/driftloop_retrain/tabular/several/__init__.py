"""Models with several labelled outputs: one multi-task network, or one model for each label."""
