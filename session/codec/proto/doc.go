// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package proto encodes attributes that are protocol buffer messages. Use it when
// programs in other languages read the sessions, or when the messages exist
// anyway:
//
//	var Profile = session.NewKey[*userpb.Profile]("profile")
//
//	m, err := session.New(store, &session.Options{Codec: proto.Codec{}})
//
// The type of each key is a pointer to a generated message; for plain values
// there are wrapperspb, timestamppb and structpb. Anything else is an error.
// Fields that this program does not know survive its writes.
//
// It never resolves a google.protobuf.Any.
package proto
