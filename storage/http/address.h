/* Which addresses are the world's and which are somebody's own network: what keeps a URL in a
 * dataset from reaching a cloud's metadata service or a neighbour's database. */
#ifndef REINFORCE_STORAGE_ADDRESS_H
#define REINFORCE_STORAGE_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

enum { ADDRESS_TEXT_BYTES = 64 };

/**
 * True for anything but a global unicast address: loopback, private, link-local, shared (carrier)
 * and reserved ranges, multicast, and IPv6 forms that carry such an IPv4 address; also for families
 * that are neither.
 *
 * Source: IANA's registries of special-purpose IPv4 and IPv6 addresses (RFC 6890).
 */
bool address_is_private(const struct sockaddr *address);

/** "10.0.0.1", for messages. */
void address_text(const struct sockaddr *address, char text[ADDRESS_TEXT_BYTES]);

#endif
