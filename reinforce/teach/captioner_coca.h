/* The local engine for CoCa snapshots of open_clip. */
#ifndef REINFORCE_TEACH_CAPTIONER_COCA_H
#define REINFORCE_TEACH_CAPTIONER_COCA_H

#include "reinforce/teach/captioner.h"

extern const struct captioner_ops captioner_coca;

#endif
