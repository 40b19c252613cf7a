import * as v from 'valibot';

import { jsonBody } from '../common/json-body.js';

const email = v.pipe(
  v.string('Give an email address'),
  v.trim(),
  v.toLowerCase(),
  v.maxLength(254, 'The email address is longer than 254 characters'),
  v.email('This is not an email address'),
);

export const SignupSchema = jsonBody({
  email,
  password: v.pipe(
    v.string('Give a password'),
    v.minLength(8, 'The password has fewer than 8 characters'),
    v.maxLength(200, 'The password has more than 200 characters'),
  ),
});

export const LoginSchema = jsonBody({
  email,
  password: v.pipe(v.string('Give a password'), v.maxLength(200, 'The password has more than 200 characters')),
});

export type Signup = v.InferOutput<typeof SignupSchema>;
export type Login = v.InferOutput<typeof LoginSchema>;
