/* The local engine for CLIP snapshots of open_clip and transformers. */
#ifndef REINFORCE_TEACH_TEACHER_CLIP_H
#define REINFORCE_TEACH_TEACHER_CLIP_H

#include "reinforce/teach/teacher.h"

extern const struct teacher_ops teacher_clip;

#endif
