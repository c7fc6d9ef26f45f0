/* How samples of a dataset are named where a name has 128 bits. */
#ifndef REINFORCE_CURATE_EXAMPLE_ID_H
#define REINFORCE_CURATE_EXAMPLE_ID_H

#include "reinforce/curate/super_batch.h"

/** A uid of 32 hexadecimal digits is that number, as DataComp's are; of any other it is the number
 * of the first 32 digits of its SHA-256. */
struct example_id example_id_of_uid(struct bytes_view uid);

#endif
