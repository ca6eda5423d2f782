"""Token paths: which token of each frame shows the same thing, as permutations that lose no token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...types import check_shape
from ...warp import pixel_grid
from .ring import central, sampled, sampled_flow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenPaths:
    """L paths through N frames of L tokens each; token = row * width + column.

    `tokens` int64 [N, L]: the token of frame i on path k, k itself in frame 0. `paths` int64 [N, L]: its inverse, the path of
    each token. `joined` bool [L, N, N]: whether frames a and b show the same thing on path k, always True for a = b.
    """

    tokens: Tensor
    paths: Tensor
    joined: Tensor

    def to(self, device: torch.device) -> "TokenPaths":
        """The same on another device."""
        return TokenPaths(tokens=self.tokens.to(device), paths=self.paths.to(device), joined=self.joined.to(device))


def token_paths(frames: Tensor, backward: Tensor, seen_backward: Tensor, size: tuple[int, int]) -> TokenPaths:
    """Paths on a grid of `size` (height, width) tokens.

    `frames` [N, 3, H, W] in [0, 1]; `backward` [N, 2, H, W] in pixels and `seen_backward` [N, 1, H, W] as in `Ring`: the
    pair that closes the ring is not used.
    """
    check_shape(frames=(frames, "N 3 H W"), backward=(backward, "N 2 H W"), seen_backward=(seen_backward, "N 1 H W"))
    matched, linked = neighbours(frames, backward, seen_backward, size)
    return chained(matched, linked)


def neighbours(frames: Tensor, backward: Tensor, seen_backward: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """For each token of frame i its token of frame i + 1, and whether flow says so: int64 and bool [N - 1, L].

    Arguments as for `token_paths`. Each row is a permutation: of several tokens that lead to one, the most alike in colour is
    taken, the lowest of equals; tokens left over fill the free places in ascending order.
    """
    height, width = size
    num_tokens = height * width
    grid = pixel_grid(height, width, frames.device)
    # Halves go to the even token, as torch.round has it.
    target = (grid + sampled_flow(backward[:-1].float(), height, width)).round()
    x, y = target[:, 0].flatten(1), target[:, 1].flatten(1)
    colours = sampled(2 * central(frames, height, width).float() - 1, height, width).flatten(2)
    valid = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    valid &= sampled(seen_backward[:-1].float(), height, width).flatten(1) >= 0.5
    # Kept off the grid until known to be finite and inside: `num_tokens` stands for nowhere.
    place = torch.where(valid, y * width + x, num_tokens).long()
    there = colours[:-1].gather(2, place.clamp(max=num_tokens - 1)[:, None].expand(-1, 3, -1))
    error = (colours[1:] - there).square().mean(dim=1)
    return assigned(place, error)


def assigned(place: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens given to places one to one: int64 [P, L], token of each place, and bool [P, L], whether it asked for it.

    `place` int64 [P, L] in 0..L is where each token wants to be, L = nowhere; `error` [P, L] decides between rivals, then the
    lower token. Sorted by place, then error, then number, the first of each place wins.
    """
    num_tokens = place.shape[1]
    by_error = error.argsort(dim=1, stable=True)
    by_place = place.gather(1, by_error).argsort(dim=1, stable=True)
    token = by_error.gather(1, by_place)
    wanted = place.gather(1, token)
    first = wanted < num_tokens
    first[:, 1:] &= wanted[:, 1:] != wanted[:, :-1]
    pair = torch.arange(len(place), device=place.device)[:, None].expand_as(place)
    matched, linked, used = torch.zeros_like(place), torch.zeros_like(first), torch.zeros_like(first)
    matched[pair[first], wanted[first]] = token[first]
    linked[pair[first], wanted[first]] = True
    used[pair[first], token[first]] = True
    # As many tokens as places are left in each row, and both masks read in ascending order.
    everything = torch.arange(num_tokens, device=place.device).expand_as(place)
    matched[~linked] = everything[~used]
    return matched, linked


def chained(matched: Tensor, linked: Tensor) -> TokenPaths:
    """Paths from neighbours: `matched` int64 and `linked` bool [N - 1, L], as `neighbours` gives them.

    A path is cut where its token is not linked to the next: frames on either side are not joined.
    """
    check_shape(matched=(matched, "P L"), linked=(linked, "P L"))
    tokens = [torch.arange(matched.shape[1], device=matched.device)]
    segment = [torch.zeros_like(tokens[0])]
    for following, bound in zip(matched, linked, strict=True):
        segment.append(segment[-1] + ~bound[tokens[-1]])
        tokens.append(following[tokens[-1]])
    along, segments = torch.stack(tokens), torch.stack(segment, dim=1)
    return TokenPaths(tokens=along, paths=along.argsort(dim=1), joined=segments[:, :, None] == segments[:, None, :])
