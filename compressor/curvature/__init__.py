"""How the loss curves: what a change of what layers see, or of what they give out, makes of a network's answers."""
