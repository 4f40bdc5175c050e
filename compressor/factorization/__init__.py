"""How the product of a weight becomes several, each of low rank."""
