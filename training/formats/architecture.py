"""What several formats must work out from the shapes of tensors."""


def channel_kwargs(channels: dict[int, int], hint: dict[str, int] | None = None) -> dict[str, int]:
    """`channel_base` and `channel_max` that give these numbers of feature maps.

    Args:
        channels: resolution → feature maps.
        hint: constructor arguments that the file names; taken where they fit.

    Raises:
        ValueError: no pair gives these numbers.
    """
    hint = hint or {}
    most = max(channels.values())
    below = [count * res for res, count in channels.items() if count < most]
    candidates = [(int(hint.get('channel_base', 32768)), int(hint.get('channel_max', 512))),
                  (below[0] if below else most * max(channels), most)]
    for base, limit in candidates:
        if all(min(base // res, limit) == count for res, count in channels.items()):
            return dict(channel_base=base, channel_max=limit)
    raise ValueError(f'irregular numbers of feature maps: {channels}')
