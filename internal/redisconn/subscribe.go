// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"
)

// Subscribe calls begun once the server has the subscription, and then message for
// each message of the channel, in order, until ctx ends or the connection does:
// then some may be missed, and it returns why. It has a connection of its own.
func (c *Conn) Subscribe(ctx context.Context, channel string, begun func(), message func(text string)) error {
	client, done := c.current().Dedicate()
	defer done()
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if s.Kind == "subscribe" {
			begun()
		}
	})
	err := client.Receive(hooked, client.B().Subscribe().Channel(channel).Build(), func(m rueidis.PubSubMessage) {
		message(m.Message)
	})
	if err == nil {
		err = errors.New("unsubscribed")
	}
	return fmt.Errorf("subscription ended: %w", c.explain(err))
}
