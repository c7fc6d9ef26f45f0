/* The local engine for SigLIP and SigLIP 2 snapshots of transformers and open_clip. */
#ifndef REINFORCE_TEACH_TEACHER_SIGLIP_H
#define REINFORCE_TEACH_TEACHER_SIGLIP_H

#include "reinforce/teach/teacher.h"

extern const struct teacher_ops teacher_siglip;

#endif
