"""What other packages need to go well with this one; each module imports its own package only."""
