// What the processor offers of x86-64's levels; nothing on other machines.
#pragma once

namespace fastnn {
namespace cpu {

bool has_v3();  // AVX2 and what came with it
bool has_v4();  // AVX-512 F, BW, CD, DQ, VL

}  // namespace cpu
}  // namespace fastnn
