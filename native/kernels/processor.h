#pragma once

namespace group_robust {

/**
 * Numbers in a vector register that code marked GROUP_ROBUST_VECTORISED has here: 16 with AVX-512, 8 with AVX2, else 4.
 * Loops with sums in registers are compiled for each, and the caller chooses by this. At most what limitRegisters()
 * allows.
 */
int registerFloats();

/** For tests: a processor whose registers have up to so many numbers, for the whole process. */
void limitRegisters(int floats);

/**
 * Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX, for registers of 16 numbers); others widen
 * every number first.
 */
bool multipliesBfloat16();

}  // namespace group_robust
