"""From recorded programs to groups: inference over axes, exactness, lanes, count constraints, cost."""
