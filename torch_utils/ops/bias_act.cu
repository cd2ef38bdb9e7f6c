// clamp(gain * act(x + b)) and its first and second derivatives, with 16-byte accesses.
#include "common.cuh"

// The order of `activation_funcs` in bias_act.py.
enum { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

// f(u), f'(u) and f''(u) of the activations. ORDER says which; alpha is the slope of lrelu.
template <int ACT, int ORDER, class A> __device__ inline A activation(A u, A alpha) {
    const A zero = 0, one = 1, two = 2;
    const A selu_scale = (A)1.0507009873554804934193349852946, selu_alpha = (A)1.6732632423543772848170429916717;
    if (ACT == LINEAR) return ORDER == 0 ? u : ORDER == 1 ? one : zero;
    if (ACT == RELU) return ORDER == 0 ? (u > zero ? u : u != u ? u : zero) : ORDER == 1 ? (u > zero ? one : zero) : zero;
    if (ACT == LRELU) return ORDER == 0 ? (u > zero ? u : u * alpha) : ORDER == 1 ? (u > zero ? one : alpha) : zero;
    if (ACT == TANH) {
        const A t = tanh(u);
        return ORDER == 0 ? t : ORDER == 1 ? one - t * t : -two * t * (one - t * t);
    }
    if (ACT == ELU || ACT == SELU) {
        const A scale = ACT == SELU ? selu_scale : one, slope = ACT == SELU ? selu_scale * selu_alpha : one;
        if (u > zero) return ORDER == 0 ? u * scale : ORDER == 1 ? scale : zero;
        return ORDER == 0 ? slope * expm1(u) : slope * exp(u);
    }
    // the rest is made of the sigmoid, written so that exp never overflows
    const A e = exp(u > zero ? -u : u), s = u > zero ? one / (one + e) : e / (one + e), ds = s * (one - s);
    if (ACT == SIGMOID) return ORDER == 0 ? s : ORDER == 1 ? ds : ds * (one - two * s);
    if (ACT == SOFTPLUS) return ORDER == 0 ? (u > zero ? u : zero) + log1p(e) : ORDER == 1 ? s : ds;
    return ORDER == 0 ? u * s : ORDER == 1 ? s + u * ds : ds * (two + u * (one - two * s));  // swish
}

// How the bias of a thread's elements is found: none, one for all of them, as many side by side, or one by one.
enum { NO_BIAS, SAME_BIAS, NEIGHBOURS, ANY_BIAS };

// COUNT elements a thread. By ORDER:
//   0: out = clamp(gain * f(x + b))                          from x, b
//   1: out = dy * gain * f'(u), or 0 where clamped           from x = dy, and ref
//   2: out = ddx * dy * gain * f''(u), or 0 where clamped    from x = dy, ddx, and ref
// `ref` is the result of order 0 where the activation is piecewise linear (its sign is that of u), else the input, to which b is added.
// b runs along the dimension of `size_b` elements that lie `step_b` apart. clamp < 0 means none.
template <class T, int ACT, int ORDER, int COUNT, int BIAS, class Index>
__global__ void bias_act(const T* x, const T* ddx, const T* ref, const T* b, T* out, int64 count, int64 step_b, int64 size_b,
                         float alpha_, float gain_, float clamp_) {
    typedef typename Accumulator<T>::type A;
    typedef Vector<T, COUNT> V;
    constexpr bool FROM_OUTPUT = ACT <= LRELU && ORDER > 0;
    const A alpha = alpha_, gain = gain_, limit = load(store<T>(clamp_));  // as it is stored, or what reached it would look as if it hadn't
    const Index i = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * COUNT, step = (Index)step_b, size = (Index)size_b;
    if (i >= (Index)count) return;

    const V x_in = *(const V*)(x + i);
    V ddx_in, ref_in, b_in, result;
    if (ORDER == 2) ddx_in = *(const V*)(ddx + i);
    if (ORDER > 0) ref_in = *(const V*)(ref + i);
    A bias = 0;
    if (BIAS == SAME_BIAS) bias = load(b[i / step % size]);
    if (BIAS == NEIGHBOURS) b_in = *(const V*)(b + i % size);
    #pragma unroll
    for (int k = 0; k < COUNT; k++) {
        if (BIAS == NEIGHBOURS) bias = load(b_in.at[k]);
        if (BIAS == ANY_BIAS) bias = load(b[(i + k) / step % size]);
        A y;
        if (ORDER == 0) {
            y = activation<ACT, 0>((A)load(x_in.at[k]) + bias, alpha) * gain;
            if (limit >= 0) y = y > limit ? limit : y < -limit ? -limit : y;
        } else {
            const A r = load(ref_in.at[k]);
            y = (A)load(x_in.at[k]) * gain;
            if (ORDER == 2) y *= (A)load(ddx_in.at[k]);
            y *= activation<ACT, ORDER>(FROM_OUTPUT ? r : r + bias, alpha);
            if (limit >= 0) {  // or the activation is not needed
                const A reached = FROM_OUTPUT ? r : activation<ACT, 0>(r + bias, alpha) * gain;
                if (is_clamped(reached, limit)) y = 0;
            }
        }
        result.at[k] = store<T>(y);
    }
    *(V*)(out + i) = result;
}

// Order 1 of the piecewise linear activations, of pictures or vectors `[pixels, channels]`, and the sums over the pixels of each lane, which
// together are the gradient of b: `[lanes, channels]`. A thread takes COUNT channels of every `lanes`-th pixel.
template <class T, int COUNT>
__global__ void bias_act_grad_sums(const T* dy, const T* y, T* dx, typename Accumulator<T>::type* d_b, int64 pixels, int channels, int lanes,
                                   float alpha, float gain, float clamp) {
    typedef typename Accumulator<T>::type A;
    typedef Vector<T, COUNT> V;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    const int groups = channels / COUNT, c = (int)(i % groups) * COUNT;
    const int64 lane = i / groups;
    if (lane >= lanes) return;
    const A limit = load(store<T>(clamp));
    A sums[COUNT];
    #pragma unroll
    for (int k = 0; k < COUNT; k++) sums[k] = 0;
    for (int64 p = lane; p < pixels; p += lanes) {
        const V dy_in = *(const V*)(dy + p * channels + c), y_in = *(const V*)(y + p * channels + c);
        V out;
        #pragma unroll
        for (int k = 0; k < COUNT; k++) {
            const A reached = load(y_in.at[k]);
            A du = (A)load(dy_in.at[k]) * (A)gain * (reached > 0 ? (A)1 : (A)alpha);
            if (is_clamped(reached, limit)) du = 0;
            out.at[k] = store<T>(du);
            sums[k] += du;
        }
        *(V*)(dx + p * channels + c) = out;
    }
    #pragma unroll
    for (int k = 0; k < COUNT; k++) d_b[lane * channels + c + k] = sums[k];
}
