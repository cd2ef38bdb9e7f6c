// CUDA's names for a plain C++ compiler: a kernel runs as a loop over its grid. Comes before the text of a kernel; see host_kernels.py.
#include <cmath>
#include <cstddef>
#include <utility>
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
using std::ceil; using std::exp; using std::expm1; using std::floor; using std::log1p; using std::tanh;
struct dim3 { unsigned x, y, z; };
static dim3 gridDim, blockDim, blockIdx, threadIdx;

template <class... A, std::size_t... I> void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) { kernel(*(A*)args[I]...); }

template <class... A> int run(void (*kernel)(A...), dim3 grid, unsigned threads, void** args) {
    gridDim = grid;
    blockDim = {threads, 1, 1};
    threadIdx = {0, 0, 0};
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
                for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) call(kernel, args, std::index_sequence_for<A...>());
    return 0;
}
