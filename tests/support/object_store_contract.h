/* What every object store must do, wherever it keeps its bytes. */
#ifndef REINFORCE_TESTS_OBJECT_STORE_CONTRACT_H
#define REINFORCE_TESTS_OBJECT_STORE_CONTRACT_H

/** Runs in a test on the store at `url`, which must be empty and is left empty; fails the test
 * where the contract is not kept. */
void object_store_contract(const char *url);

#endif
