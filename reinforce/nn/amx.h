/* Whether this process may use AMX. Private to reinforce/nn. */
#ifndef REINFORCE_NN_AMX_H
#define REINFORCE_NN_AMX_H

#include <stdbool.h>

/** What its tiles multiply. */
enum amx_type { AMX_INT8, AMX_BF16 };

/** The processor has it, with what AVX-512 the kernels beside it need, and the operating system
 * lets this process use it. */
bool amx_is_there(enum amx_type type);

#endif
