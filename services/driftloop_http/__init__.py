"""The HTTP parts shared by the serving port and the control API: errors, limits, access checks."""
