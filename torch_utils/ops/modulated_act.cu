// What follows a modulated convolution, clamp(gain * lrelu(x * scale + strength * noise + b)), its gradients, and theirs, in one pass each.
//
// Pictures are channels_last: a thread takes COUNT neighbouring channels (one 16-byte access) of every `lanes`-th pixel, so that scale and b
// stay in registers and sums over pixels need no other thread: each writes its own part of them, of which there are few.
#include "common.cuh"

// The place of a thread: its first channel, its first pixel.
template <int COUNT> struct Strip {
    int c, lane;
    bool inside;
    __device__ inline Strip(int channels, int lanes) {
        const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
        const int groups = channels / COUNT;
        inside = i < (int64)groups * lanes;
        c = (int)(i % groups) * COUNT;
        lane = (int)(i / groups);
    }
};

// noise may be missing (null, and so may strength), b too; noise_n is 0 where all pictures have the same. clamp < 0 means none.
template <class T, int COUNT>
__global__ void modulated_act(const T* x, const float* scale, const float* noise, const float* strength, const float* b, T* y,
                              int batch, int channels, int pixels, int lanes, int64 noise_n, float alpha, float gain, float clamp) {
    typedef typename Accumulator<T>::type A;
    typedef Vector<T, COUNT> V;
    const Strip<COUNT> at(channels, lanes);
    if (!at.inside) return;
    A bias[COUNT], factor[COUNT];
    #pragma unroll
    for (int k = 0; k < COUNT; k++) bias[k] = b ? (A)b[at.c + k] : (A)0;
    const A limit = load(store<T>(clamp));  // as it is stored, or what reached it would look as if it hadn't
    const A loudness = noise ? (A)*strength : (A)0;
    for (int n = blockIdx.z; n < batch; n += gridDim.z) {
        #pragma unroll
        for (int k = 0; k < COUNT; k++) factor[k] = (A)scale[(int64)n * channels + at.c + k];
        for (int p = at.lane; p < pixels; p += lanes) {
            const int64 place = ((int64)n * pixels + p) * channels + at.c;
            const A added = noise ? (A)noise[n * noise_n + p] * loudness : (A)0;
            const V in = *(const V*)(x + place);
            V out;
            #pragma unroll
            for (int k = 0; k < COUNT; k++) {
                A u = (A)load(in.at[k]) * factor[k] + added + bias[k];
                u = (u > 0 ? u : u * (A)alpha) * (A)gain;
                if (limit >= 0) u = u > limit ? limit : u < -limit ? -limit : u;
                out.at[k] = store<T>(u);
            }
            *(V*)(y + place) = out;
        }
    }
}

// From dy, the input and the result to dx; and for each picture and lane the sums over its pixels that are the gradients of scale, of b
// (where d_b is not null) and, over the channels of a thread too, of strength: `[batch, lanes, channels]` twice and
// `[batch, lanes, channels / COUNT]`.
template <class T, int COUNT>
__global__ void modulated_act_grad(const T* dy, const T* x, const T* y, const float* scale, const float* noise, T* dx,
                                   typename Accumulator<T>::type* d_scale, typename Accumulator<T>::type* d_b,
                                   typename Accumulator<T>::type* d_strength, int batch, int channels, int pixels, int lanes, int64 noise_n,
                                   float alpha, float gain, float clamp) {
    typedef typename Accumulator<T>::type A;
    typedef Vector<T, COUNT> V;
    const Strip<COUNT> at(channels, lanes);
    if (!at.inside) return;
    const A limit = load(store<T>(clamp));
    for (int n = blockIdx.z; n < batch; n += gridDim.z) {
        A factor[COUNT], to_scale[COUNT], to_b[COUNT], to_strength = 0;
        #pragma unroll
        for (int k = 0; k < COUNT; k++) {
            factor[k] = (A)scale[(int64)n * channels + at.c + k];
            to_scale[k] = to_b[k] = 0;
        }
        for (int p = at.lane; p < pixels; p += lanes) {
            const int64 place = ((int64)n * pixels + p) * channels + at.c;
            const V dy_in = *(const V*)(dy + place), x_in = *(const V*)(x + place), y_in = *(const V*)(y + place);
            V out;
            A pixel = 0;
            #pragma unroll
            for (int k = 0; k < COUNT; k++) {
                const A reached = (A)load(y_in.at[k]);
                A du = (A)load(dy_in.at[k]) * (A)gain * (reached > 0 ? (A)1 : (A)alpha);
                if (is_clamped(reached, limit)) du = 0;
                out.at[k] = store<T>(du * factor[k]);
                to_scale[k] += du * (A)load(x_in.at[k]);
                to_b[k] += du;
                pixel += du;
            }
            if (noise) to_strength += pixel * (A)noise[n * noise_n + p];
            *(V*)(dx + place) = out;
        }
        const int64 part = ((int64)n * lanes + at.lane) * channels + at.c;
        #pragma unroll
        for (int k = 0; k < COUNT; k++) {
            d_scale[part + k] = to_scale[k];
            if (d_b) d_b[part + k] = to_b[k];
        }
        if (noise) d_strength[part / COUNT] = to_strength;
    }
}

// The gradients of dx and of the sums that are the gradient of scale, with ddx and dd_scale coming back to them: what goes to dy and to x
// (where to_x is not null), and for each picture and lane the sums that go to scale, `[batch, lanes, channels]`.
template <class T, int COUNT>
__global__ void modulated_act_grad2(const T* ddx, const float* dd_scale, const T* dy, const T* x, const T* y, const float* scale, T* to_dy,
                                    T* to_x, typename Accumulator<T>::type* to_scale, int batch, int channels, int pixels, int lanes,
                                    float alpha, float gain, float clamp) {
    typedef typename Accumulator<T>::type A;
    typedef Vector<T, COUNT> V;
    const Strip<COUNT> at(channels, lanes);
    if (!at.inside) return;
    const A limit = load(store<T>(clamp));
    for (int n = blockIdx.z; n < batch; n += gridDim.z) {
        A factor[COUNT], weight[COUNT], sums[COUNT];
        #pragma unroll
        for (int k = 0; k < COUNT; k++) {
            factor[k] = (A)scale[(int64)n * channels + at.c + k];
            weight[k] = (A)dd_scale[(int64)n * channels + at.c + k];
            sums[k] = 0;
        }
        for (int p = at.lane; p < pixels; p += lanes) {
            const int64 place = ((int64)n * pixels + p) * channels + at.c;
            const V ddx_in = *(const V*)(ddx + place), dy_in = *(const V*)(dy + place);
            const V x_in = *(const V*)(x + place), y_in = *(const V*)(y + place);
            V out, out_x;
            #pragma unroll
            for (int k = 0; k < COUNT; k++) {
                const A reached = (A)load(y_in.at[k]), coming = (A)load(ddx_in.at[k]);
                const bool clamped = is_clamped(reached, limit);  // nothing passes, not even what is infinite
                const A slope = reached > 0 ? (A)gain : (A)alpha * (A)gain, du = clamped ? (A)0 : slope * (A)load(dy_in.at[k]);
                out.at[k] = store<T>(clamped ? (A)0 : slope * (coming * factor[k] + weight[k] * (A)load(x_in.at[k])));
                out_x.at[k] = store<T>(du * weight[k]);
                sums[k] += clamped ? (A)0 : du * coming;
            }
            *(V*)(to_dy + place) = out;
            if (to_x) *(V*)(to_x + place) = out_x;
        }
        const int64 part = ((int64)n * lanes + at.lane) * channels + at.c;
        #pragma unroll
        for (int k = 0; k < COUNT; k++) to_scale[part + k] = sums[k];
    }
}
