"""Merge several sources into one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dnnlib import UserError
from dnnlib.containers import Skipped

from .base import PictureSource, SourcePicture


class MergedSource(PictureSource):
    """Several sources, one after the other; names begin with those of the sources."""

    def __init__(self, sources: Sequence[PictureSource]) -> None:
        super().__init__(sources[0].path)
        self._sources = sources
        used: Counter[str] = Counter()
        self._prefixes: list[str] = []
        for source in sources:
            name = source.path.resolve().name
            used[name] += 1
            self._prefixes.append(name if used[name] == 1 else f'{name}-{used[name]}')
        self.title = [source.path.resolve().name for source in sources]
        names = [source.picture_names for source in sources]
        if all(found is not None for found in names):
            self.picture_names = [
                f'{prefix}/{name}'
                for prefix, found in zip(self._prefixes, names)
                for name in found or []
            ]
        totals = [source.total for source in sources]
        self.total = None if None in totals else sum(total or 0 for total in totals)
        for prefix, source in zip(self._prefixes, sources):
            self.other_names += [f'{prefix}/{name}' for name in source.other_names]
            self.problems += [
                replace(item, name=f'{prefix}/{item.name}') for item in source.problems
            ]
            self.remarks += [replace(item, name=f'{prefix}/{item.name}') for item in source.remarks]
        self._merge_labels()

    def _merge_labels(self) -> None:
        bare = [source.path for source in self._sources if not source.labelled]
        if bare and len(bare) < len(self._sources):
            labelled = next(source.path for source in self._sources if source.labelled)
            raise UserError(
                f'--source {bare[0]} has no labels, {labelled} has; label both, or '
                f'give --labels none'
            )
        self.labelled = not bare
        self.keep_numbers = self._sources[0].keep_numbers
        lists = [source.class_names for source in self._sources]
        if any(lists):
            if not all(lists):
                raise UserError(
                    f'--source {self._sources[lists.index(None)].path} has classes '
                    f'without names, another source has named '
                    'ones; give --labels none, or the same class_names in both'
                )
            self.class_names = list(dict.fromkeys(name for names in lists for name in names or []))

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for prefix, source in zip(self._prefixes, self._sources):
            numbers = (
                {
                    old: self.class_names.index(name)
                    for old, name in enumerate(source.class_names or [])
                }
                if self.class_names
                else {}
            )
            for item in source:
                name = f'{prefix}/{item.name}'
                if isinstance(item, Skipped):
                    yield replace(item, name=name)
                else:
                    label = (
                        numbers.get(item.label, item.label)
                        if isinstance(item.label, int)
                        else item.label
                    )
                    yield replace(item, name=name, label=label)
