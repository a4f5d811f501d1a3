// What compilers spell differently: g++ and clang the one way, MSVC the other. All else in the sources is C++17.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#define FASTNN_X86_64 1
#endif

#if defined(__unix__) || defined(__APPLE__)
#define FASTNN_POSIX 1
#endif

// clang-cl, which looks like MSVC, speaks g++'s language as well.
#if defined(__GNUC__) || defined(__clang__)
#define FASTNN_GNU 1
#endif

// FASTNN_BUILTIN(fabsf)(x): the instruction, without the C library where there is a choice.
#ifdef FASTNN_GNU
#define FASTNN_INLINE inline __attribute__((always_inline))
#define FASTNN_NOINLINE __attribute__((noinline))
#define FASTNN_BUILTIN(name) __builtin_##name
#define FASTNN_PREFETCH(address) __builtin_prefetch(address)
#elif defined(_MSC_VER)
#include <math.h>
#define FASTNN_INLINE __forceinline
#define FASTNN_NOINLINE __declspec(noinline)
#define FASTNN_BUILTIN(name) ::name
#define FASTNN_PREFETCH(address) static_cast<void>(address)
#else
#error "fastnn is built by g++, clang or MSVC"
#endif
#define FASTNN_RESTRICT __restrict

// Vectors of the language: FASTNN_VECTOR_EXTENSIONS=OFF of the build does without, as compilers without them do.
#if defined(FASTNN_GNU) && !defined(FASTNN_NO_VECTOR_EXTENSIONS)
#define FASTNN_VECTOR_EXTENSIONS 1
#endif
