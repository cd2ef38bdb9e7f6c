// What every kernel of this folder shares: numbers of 16 to 64 bits, 16-byte accesses, indices that don't overflow.
//
// No headers, of CUDA or torch: the same text is compiled by NVRTC, by nvcc, by hipcc, and, for the tests, by a plain
// C++ compiler that runs the grid as a loop (then HOST_EMULATION is defined and tests/host_kernels.h comes first).
#pragma once

typedef long long int64;
typedef unsigned long long uint64;
typedef unsigned short uint16;

// float16 and bfloat16 are stored as 16 bits and computed with as float32, float64 as itself.
struct half_t { uint16 bits; };
struct bfloat16_t { uint16 bits; };

template <class T> struct Accumulator { typedef float type; };
template <> struct Accumulator<double> { typedef double type; };

__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }

#if defined(__CUDACC__) && !defined(__HIP__)
__device__ inline float load(half_t x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }
__device__ inline half_t to_half(float x) { half_t y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
__device__ inline unsigned bits_of(float x) { return __float_as_uint(x); }
__device__ inline float float_of(unsigned x) { return __uint_as_float(x); }
#else
__device__ inline float load(half_t x) { _Float16 y; __builtin_memcpy(&y, &x, 2); return (float)y; }
__device__ inline half_t to_half(float x) { _Float16 y = (_Float16)x; half_t z; __builtin_memcpy(&z, &y, 2); return z; }
__device__ inline unsigned bits_of(float x) { unsigned y; __builtin_memcpy(&y, &x, 4); return y; }
__device__ inline float float_of(unsigned x) { float y; __builtin_memcpy(&y, &x, 4); return y; }
#endif

__device__ inline float load(bfloat16_t x) { return float_of((unsigned)x.bits << 16); }
__device__ inline bfloat16_t to_bfloat16(float x) {  // to the nearest, ties to even
    const unsigned bits = bits_of(x);
    bfloat16_t y;
    y.bits = x != x ? (uint16)0x7fff : (uint16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return y;
}

template <class T> __device__ inline T store(typename Accumulator<T>::type x);
template <> __device__ inline float store<float>(float x) { return x; }
template <> __device__ inline double store<double>(double x) { return x; }
template <> __device__ inline half_t store<half_t>(float x) { return to_half(x); }
template <> __device__ inline bfloat16_t store<bfloat16_t>(float x) { return to_bfloat16(x); }

// COUNT numbers that are read and written at once; up to 16 bytes.
template <class T, int COUNT> struct alignas(sizeof(T) * COUNT) Vector { T at[COUNT]; };

// Whether a result lies at its limit, beyond which no gradient passes; a negative limit is none.
template <class A> __device__ inline bool is_clamped(A result, A limit) { return limit >= 0 && (result >= limit || result <= -limit); }
