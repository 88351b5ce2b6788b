"""The commands, defined once, and the surfaces that follow from the definitions."""
