/* What the registers of this processor can do: the measure of every product. */
#ifndef REINFORCE_NN_PEAKS_H
#define REINFORCE_NN_PEAKS_H

/** Operations per second of the calling thread's own time, a multiply-add being two, in a loop of a
 * few ten milliseconds that never leaves the registers: float32 by FMA, int8 by AMX's
 * tiles or vpdpbusd, as wide as there are. 0: this processor has no such instruction, or this build does not know it. */
double peaks_float32(void);
double peaks_int8(void);

#endif
