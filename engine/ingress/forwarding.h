/* Sends a part of a message on to the node that leads its shard, and fills its results with what
 * that node answers. */
#ifndef JUMUN_INGRESS_FORWARDING_H
#define JUMUN_INGRESS_FORWARDING_H

#include "engine/ingress/exchange.h"
#include "engine/ingress/forwarder.h"

/* Sends part number `part` of the exchange to the node. True: the part is done, with
 * request_part_done(), when the answer is there or is given up, perhaps before the return; an
 * outcome that nobody knows is LEADERSHIP_LOST. False: nothing was sent. The thread that received
 * the message. */
bool forwarding_send(struct forwarder *forwarder, struct exchange *exchange, uint32_t part,
                     uint32_t node);

/* The results of a reply -> those of the commands of a part. False = it is no reply to them; then
 * nothing is filled. Untrusted bytes. */
bool forwarding_take_reply(struct bytes reply, struct request_part *part, uint32_t shard);

#endif
