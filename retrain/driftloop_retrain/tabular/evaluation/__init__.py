"""What is measured of a candidate for its report, as JSON."""
