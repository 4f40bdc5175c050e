"""Distillation: who teaches, who learns, and what is learnt: answers, or what layers give out."""
