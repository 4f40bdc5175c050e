"""Distillation: who teaches, who learns, and what of the teacher is learnt."""
