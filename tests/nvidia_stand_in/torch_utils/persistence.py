"""Executes the source in the file, as NVIDIA's loader does."""

import types

import dnnlib

_modules = {}


def persistent_class(orig_class):
    class Decorator(orig_class):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = args, kwargs

    Decorator.__name__ = orig_class.__name__
    return Decorator


def _reconstruct_persistent_obj(meta):
    meta = dnnlib.EasyDict(meta)
    assert meta.version == 6 and meta.type == 'class'
    if meta.module_src not in _modules:
        module = types.ModuleType('_imported_module')
        exec(meta.module_src, module.__dict__)
        _modules[meta.module_src] = module
    cls = _modules[meta.module_src].__dict__[meta.class_name]
    obj = cls.__new__(cls)
    obj.__setstate__(dict(meta.state))
    return obj
