"""Models as released folders, and the machinery that loads, runs and explains them."""
