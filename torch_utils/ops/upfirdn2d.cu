// Pad, insert zeros, filter, keep every n-th pixel. Pictures have any strides, 64 bits of them.
//
// Output pixel (ox, oy) is the sum over taps (kx, ky) of f[ky, kx] * u[oy * down + ky - pad, ox * down + kx - pad], where u is the
// picture with up - 1 zeros after each pixel: u[q] = x[q / up] where up divides q, else 0. Filters come already turned, as correlations.
#include "common.cuh"

struct Shape { int channels, height, width; };

// Floor division for positive divisors.
__device__ inline int floor_div(int a, int b) { const int q = a / b; return q * b > a ? q - 1 : q; }

// Any factors, any filter. A thread an output pixel and channel.
template <class T>
__global__ void upfirdn2d_general(const T* x, const float* f, T* y, int batch, int channels, int in_h, int in_w, int out_h, int out_w,
                                  int64 x_n, int64 x_c, int64 x_h, int64 x_w, int64 y_n, int64 y_c, int64 y_h, int64 y_w,
                                  int fh, int fw, int up_x, int up_y, int down_x, int down_y, int pad_x, int pad_y, float gain,
                                  int channels_first) {
    typedef typename Accumulator<T>::type A;
    const int64 plane = (int64)channels * out_w;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= plane) return;
    const int c = (int)(channels_first ? i / out_w : i % channels), ox = (int)(channels_first ? i % out_w : i / channels);
    const int qx = ox * down_x - pad_x;
    for (int n = blockIdx.z; n < batch; n += gridDim.z)
        for (int oy = blockIdx.y; oy < out_h; oy += gridDim.y) {
            const int qy = oy * down_y - pad_y;
            A sum = 0;
            // the first tap that meets a pixel: up divides q + k, and the pixel is not above or left of the picture
            int ky = qy < 0 ? -qy : floor_div(qy + up_y - 1, up_y) * up_y - qy;
            for (int iy = (qy + ky) / up_y; ky < fh && iy < in_h; ky += up_y, iy++) {
                int kx = qx < 0 ? -qx : floor_div(qx + up_x - 1, up_x) * up_x - qx;
                for (int ix = (qx + kx) / up_x; kx < fw && ix < in_w; kx += up_x, ix++)
                    sum += (A)load(x[n * x_n + c * x_c + iy * x_h + ix * x_w]) * (A)f[ky * fw + kx];
            }
            y[n * y_n + c * y_c + oy * y_h + ox * y_w] = store<T>(sum * (A)gain);
        }
}

// The product of a row and a column filter of TAPS taps. A thread makes ROWS output rows of one column, COUNT channels that lie side by
// side in memory (channels_last): it filters each input row once, sideways, and adds that to the output rows that it belongs to. All of
// that is unrolled, so that sums and taps live in registers.
template <class T, int UP, int DOWN, int TAPS, int ROWS, int COUNT>
__global__ void upfirdn2d_separable(const T* x, const float* f_row, const float* f_column, T* y, int batch, int channels, int in_h, int in_w,
                                    int out_h, int out_w, int64 x_n, int64 x_c, int64 x_h, int64 x_w,
                                    int64 y_n, int64 y_c, int64 y_h, int64 y_w, int pad_x, int pad_y, float gain, int channels_first) {
    typedef typename Accumulator<T>::type A;
    typedef Vector<T, COUNT> V;
    constexpr int ROW_TAPS = (TAPS + UP - 1) / UP;  // that meet a pixel
    constexpr int IN_ROWS = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1;
    const int groups = channels / COUNT;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64)groups * out_w) return;
    const int c = (int)(channels_first ? i / out_w : i % groups) * COUNT, ox = (int)(channels_first ? i % out_w : i / groups);

    A column[TAPS], row[ROW_TAPS];
    #pragma unroll
    for (int k = 0; k < TAPS; k++) column[k] = (A)f_column[k] * (A)gain;
    const int qx = ox * DOWN - pad_x;
    const int ix = floor_div(qx + UP - 1, UP), first = ix * UP - qx;  // the first pixel to the right of qx, and its tap: 0 … UP - 1
    #pragma unroll
    for (int k = 0; k < ROW_TAPS; k++) {
        const bool inside = first + k * UP < TAPS && ix + k >= 0 && ix + k < in_w;
        row[k] = inside ? (A)f_row[first + k * UP] : (A)0;
    }

    // Rows are taken in tiles that start where UP divides oy * DOWN - pad_y: then it is known beforehand which tap meets which row.
    const int lead = UP == 1 ? 0 : ((pad_y % UP) + UP) % UP;  // UP > 1 goes with DOWN == 1: oy0 - pad_y is a multiple of UP
    const int tiles = (out_h + (UP - lead) % UP + ROWS - 1) / ROWS;
    for (int n = blockIdx.z; n < batch; n += gridDim.z)
        for (int tile = blockIdx.y; tile < tiles; tile += gridDim.y) {
            const int oy = tile * ROWS - (UP - lead) % UP;
            const int iy = floor_div(oy * DOWN - pad_y, UP);
            const T* source = x + n * x_n + c * x_c + (int64)ix * x_w;
            A sums[ROWS][COUNT];
            #pragma unroll
            for (int r = 0; r < ROWS; r++)
                #pragma unroll
                for (int v = 0; v < COUNT; v++) sums[r][v] = 0;
            #pragma unroll
            for (int j = 0; j < IN_ROWS; j++) {
                if (iy + j >= 0 && iy + j < in_h) {
                    A filtered[COUNT];
                    #pragma unroll
                    for (int v = 0; v < COUNT; v++) filtered[v] = 0;
                    #pragma unroll
                    for (int k = 0; k < ROW_TAPS; k++)
                        if (ix + k >= 0 && ix + k < in_w) {
                            const V pixel = *(const V*)(source + (int64)(iy + j) * x_h + k * x_w);
                            #pragma unroll
                            for (int v = 0; v < COUNT; v++) filtered[v] += (A)load(pixel.at[v]) * row[k];
                        }
                    #pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        const int k = j * UP - r * DOWN;  // known when compiled
                        if (k >= 0 && k < TAPS)
                            #pragma unroll
                            for (int v = 0; v < COUNT; v++) sums[r][v] += filtered[v] * column[k];
                    }
                }
                #pragma unroll
                for (int r = 0; r < ROWS; r++)  // written as soon as complete, so that few sums are alive at a time
                    if (j == (r * DOWN + TAPS - 1) / UP && oy + r >= 0 && oy + r < out_h) {
                        V result;
                        #pragma unroll
                        for (int v = 0; v < COUNT; v++) result.at[v] = store<T>(sums[r][v]);
                        *(V*)(y + n * y_n + c * y_c + (int64)(oy + r) * y_h + ox * y_w) = result;
                    }
            }
        }
}
