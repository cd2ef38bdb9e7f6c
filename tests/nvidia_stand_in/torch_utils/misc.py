def assert_shape(tensor, shape):
    assert all(a is None or a == b for a, b in zip(shape, tensor.shape))


def profiled_function(fn):
    return fn
