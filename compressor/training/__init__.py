"""The one training loop; what is learnt is an objective of it."""
