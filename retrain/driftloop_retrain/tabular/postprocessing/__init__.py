"""What follows a model's own answers inside its graph: calibrated probabilities, and the label that
costs least by them. Chosen on validation rows that it was not fitted on."""
