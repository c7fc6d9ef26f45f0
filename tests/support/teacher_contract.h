/* What every kind of teacher promises. */
#ifndef REINFORCE_TESTS_TEACHER_CONTRACT_H
#define REINFORCE_TESTS_TEACHER_CONTRACT_H

#include "reinforce/teach/teacher.h"

/** Opens the teacher and fails the test where it breaks the contract: unit rows, results that do
 * not depend on batch, order or threads, scratch given back, too little scratch refused. */
void teacher_contract(const struct teacher_options *options);

#endif
