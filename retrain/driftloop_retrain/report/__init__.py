"""The report and the model card of a version, made from its record and from nothing else."""
