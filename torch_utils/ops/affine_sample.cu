// Sample a picture that is mirrored at its edges and doubled in size, bilinearly, at the affine image of a grid; and the transpose of that.
//
// Neither the mirrored nor the doubled picture is ever made: a sample is a sum over 7 x 7 pixels at most, whose weights are the product of a
// row's and a column's, and a pixel's gradient is a sum over the samples that it went into, so that no two threads write to one place.
#include "common.cuh"

constexpr int TAPS = 12;    // of the filter that doubles, turned, its sum 2
constexpr int THREADS = 256;
constexpr int REACHED = 7;  // pixels along an axis that two neighbours of the doubled picture are made of

// A position along an axis of the doubled picture: pixel q and the next one, and how much of each; nothing where there is no such pixel.
template <class A> struct Place { int q; A near, far; };

template <class A> __device__ inline Place<A> place(A u, int size) {
    const int low = -2 * (size - 1), high = 4 * size - 2;  // mirrored once at each end
    if (!(u > (A)(low - 1) && u < (A)high)) return {0, 0, 0};
    const A below = floor(u);
    const int q = (int)below;
    return {q, q >= low ? 1 - (u - below) : 0, q + 1 < high ? u - below : 0};
}

// The weight of the pixel that meets tap k of doubled pixel q, and so tap k - 1 of the next.
template <class A> __device__ inline A weight(const Place<A>& p, int k, const float* f) {
    return (k >= 0 && k < TAPS ? p.near * (A)f[k] : (A)0) + (k >= 1 && k <= TAPS ? p.far * (A)f[k - 1] : (A)0);
}

// The position of a sample: matrix is two rows of three, from indices of samples to indices of the doubled picture.
template <class A> struct Point { A x, y; };

template <class A> __device__ inline Point<A> position(const float* matrix, int sx, int sy) {
    return {(A)matrix[0] * sx + (A)matrix[1] * sy + (A)matrix[2], (A)matrix[3] * sx + (A)matrix[4] * sy + (A)matrix[5]};
}

// A thread a sample, for all channels.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) affine_sample(const T* x, const float* matrices, const float* f, T* y, int batch, int channels, int height, int width,
                              int rows, int columns, int64 x_n, int64 x_c, int64 x_h, int64 x_w, int64 y_n, int64 y_c, int64 y_h, int64 y_w) {
    typedef typename Accumulator<T>::type A;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64)rows * columns) return;
    const int sy = (int)(i / columns), sx = (int)(i % columns);
    for (int n = blockIdx.z; n < batch; n += gridDim.z) {
        const Point<A> at = position<A>(matrices + n * 6, sx, sy);
        A weights[2][REACHED];
        int at_pixel[2][REACHED];
        #pragma unroll
        for (int axis = 0; axis < 2; axis++) {
            const int size = axis == 0 ? width : height;
            const Place<A> p = place<A>(axis == 0 ? at.x : at.y, size);
            const int odd = p.q & 1, first = (p.q - odd) / 2 - 3 + odd;
            #pragma unroll
            for (int j = 0; j < REACHED; j++) {
                const int k = first + j, mirrored = k < 0 ? -k : k >= size ? 2 * (size - 1) - k : k;
                const bool inside = k > -size && k < 2 * size - 1;
                weights[axis][j] = inside ? weight<A>(p, 2 * j + odd, f) : (A)0;
                at_pixel[axis][j] = inside ? mirrored : 0;
            }
        }
        for (int c = 0; c < channels; c++) {
            const T* source = x + n * x_n + c * x_c;
            A sum = 0;
            #pragma unroll
            for (int j = 0; j < REACHED; j++) {
                const T* line = source + at_pixel[1][j] * x_h;
                A row = 0;
                #pragma unroll
                for (int k = 0; k < REACHED; k++) row += (A)load(line[at_pixel[0][k] * x_w]) * weights[0][k];
                sum += row * weights[1][j];
            }
            y[n * y_n + c * y_c + sy * y_h + sx * y_w] = store<T>(sum);
        }
    }
}

// An interval of whole numbers.
struct Range { int low, high; };

template <class A> __device__ inline int bounded(A value, int low, int high) { return value > (A)low ? value < (A)high ? (int)value : high : low; }

// What is left of a range where |slope * s + offset| < reach, rounded outwards.
template <class A> __device__ inline Range narrowed(Range range, A slope, A offset, A reach) {
    const A steepness = slope < 0 ? -slope : slope;
    if (steepness < (A)1e-6) return range;
    const A middle = -offset / slope, half = reach / steepness;
    return {bounded<A>(floor(middle - half), range.low, range.high + 1), bounded<A>(ceil(middle + half), range.low - 1, range.high)};
}

// A thread a pixel, CHANNELS of them: each sample that it or one of its mirror images went into, times the weight that it had there.
template <class T, int CHANNELS>
__global__ void affine_sample_transposed(const T* dy, const float* matrices, const float* f, T* dx, int batch, int channels, int height,
                                         int width, int rows, int columns, int64 dy_n, int64 dy_c, int64 dy_h, int64 dy_w,
                                         int64 dx_n, int64 dx_c, int64 dx_h, int64 dx_w) {
    typedef typename Accumulator<T>::type A;
    const A reach = (A)6.6;  // half a filter and a bilinear neighbour, and some room for rounding
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64)height * width) return;
    const int py = (int)(i / width), px = (int)(i % width), c = blockIdx.y * CHANNELS;
    for (int n = blockIdx.z; n < batch; n += gridDim.z) {
        const float* m = matrices + n * 6;
        const A det = (A)m[0] * (A)m[4] - (A)m[1] * (A)m[3];
        A sums[CHANNELS];
        #pragma unroll
        for (int v = 0; v < CHANNELS; v++) sums[v] = 0;
        for (int image = 0; image < 9; image++) {
            const int ix = image % 3 == 0 ? px : image % 3 == 1 ? -px : 2 * (width - 1) - px;
            const int iy = image / 3 == 0 ? py : image / 3 == 1 ? -py : 2 * (height - 1) - py;
            if ((image % 3 != 0 && ix == px) || (image / 3 != 0 && iy == py)) continue;  // an edge is its own mirror image
            const A cx = (A)m[2] - (2 * ix + (A)0.5), cy = (A)m[5] - (2 * iy + (A)0.5);  // of sample (0, 0), seen from the pixel
            Range lines = {0, rows - 1};
            if (det != 0) {  // |u| and |v| < reach, solved for the line of samples
                const A span = reach * ((m[0] < 0 ? -(A)m[0] : (A)m[0]) + (m[3] < 0 ? -(A)m[3] : (A)m[3]));
                lines = narrowed<A>(lines, det, (A)m[0] * cy - (A)m[3] * cx, span);
            }
            for (int sy = lines.low; sy <= lines.high; sy++) {
                Range line = narrowed<A>({0, columns - 1}, (A)m[0], (A)m[1] * sy + cx, reach);
                line = narrowed<A>(line, (A)m[3], (A)m[4] * sy + cy, reach);
                for (int sx = line.low; sx <= line.high; sx++) {
                    const Point<A> at = position<A>(m, sx, sy);
                    const Place<A> column = place<A>(at.x, width), row = place<A>(at.y, height);
                    const A w = weight<A>(column, 2 * ix - column.q + 6, f) * weight<A>(row, 2 * iy - row.q + 6, f);
                    #pragma unroll
                    for (int v = 0; v < CHANNELS; v++) sums[v] += (A)load(dy[n * dy_n + (c + v) * dy_c + sy * dy_h + sx * dy_w]) * w;
                }
            }
        }
        #pragma unroll
        for (int v = 0; v < CHANNELS; v++) dx[n * dx_n + (c + v) * dx_c + py * dx_h + px * dx_w] = store<T>(sums[v]);
    }
}
