"""FRESCO's mathematics (Yang, Zhou, Liu, Loy, CVPR 2024) as functions of tensors: correspondence, attention, optimisation.

Nothing here knows a network. A batch of N frames goes through a network as S streams (unconditional first) of N rows each;
`[S N, ...]` in a docstring means that order. The ring of frames closes: the frame after the last is the first.
"""
