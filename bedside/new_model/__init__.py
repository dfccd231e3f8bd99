"""`bedside model new`: a package for a model of one's own, outside of Bedside."""
