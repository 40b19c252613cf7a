import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateUsersAndPages1760000000000 implements MigrationInterface {
  async up(query: QueryRunner): Promise<void> {
    // MySQL commits each statement that defines data by itself. IF NOT EXISTS
    // lets a run that was broken off in the middle be repeated.
    await query.query(`
      CREATE TABLE IF NOT EXISTS users (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        email VARCHAR(254) NOT NULL,
        password_hash VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
        UNIQUE KEY users_email (email)
      ) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    `);
    await query.query(`
      CREATE TABLE IF NOT EXISTS pages (
        slug VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        owner_id INT UNSIGNED NOT NULL,
        title VARCHAR(200) NOT NULL,
        body MEDIUMTEXT NOT NULL,
        created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
        updated_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
        KEY pages_owner (owner_id, updated_at),
        CONSTRAINT pages_owner FOREIGN KEY (owner_id) REFERENCES users (id)
      ) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    `);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only: write a new one that undoes this one');
  }
}
