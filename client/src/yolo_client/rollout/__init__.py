"""Canary rollouts: more traffic to new weights step by step, for as long as they do as well as the old ones."""
