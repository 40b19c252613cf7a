import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('pages')
export class Page {
  /** The page's name, and the label of the subdomain that shows it. */
  @PrimaryColumn('varchar', { length: 63 })
  slug: string;

  @Column('int', { name: 'owner_id', unsigned: true, select: false })
  ownerId: number;

  @Column('varchar', { length: 200 })
  title: string;

  @Column('mediumtext')
  body: string;

  // The database keeps both times: no host's clock counts.
  @Column({ type: 'datetime', name: 'created_at', precision: 3, insert: false, update: false })
  createdAt: Date;

  @Column({ type: 'datetime', name: 'updated_at', precision: 3, insert: false, update: false })
  updatedAt: Date;
}
