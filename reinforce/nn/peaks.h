/* What the registers of this processor can do: the measure of every product. */
#ifndef REINFORCE_NN_PEAKS_H
#define REINFORCE_NN_PEAKS_H

struct float_kernel;
struct int8_kernel;

/** Operations per second of the calling thread's own time, a multiply-add being two, in a loop of a
 * few ten milliseconds that never leaves the registers: float32 by FMA as wide as there is, float32
 * in parts of bfloat16 by float_amx(), int8 by the instruction of a kernel, AMX's or vpdpbusd. 0:
 * there is no such instruction. */
double peaks_float32(void);
double peaks_bf16(const struct float_kernel *amx);
double peaks_int8(const struct int8_kernel *kernel);

#endif
